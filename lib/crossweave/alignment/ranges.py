"""The ranges that settings of parts have, written where a part says its argument."""

from typing import Annotated

from pydantic import Field

AtLeast1 = Annotated[int, Field(ge=1, lt=2**31)]
AtLeast0 = Annotated[int, Field(ge=0, lt=2**31)]
Above0 = Annotated[float, Field(gt=0.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
ShareBelow1 = Annotated[float, Field(ge=0.0, lt=1.0)]
