"""The package and its pins; `submit.sh setup` installs them in the order that their builds need."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

RUNTIME = [
    "pyspark==3.5.9",
    "pyarrow==14.0.2",  # the only window that petastorm 0.13.1 reads with: below it a CVE, above it no legacy pieces
    "numpy==1.26.4",
    "pandas==2.2.3",
    "torch==2.13.0",
    "torchvision==0.28.0",
    "transformers==5.23.0",
    "deltalake>=1.6.6,<2",
    "safetensors",
    "peft>=0.21,<0.22",  # adapters of encoders
    "pydantic>=2,<3",
    "omegaconf",
    "Pillow>=13,<14",
    "soundfile",
    "matplotlib",
    "jinja2",
    "tensorboard",
    "optuna>=5,<6",  # the search over settings
    "scipy>=1.11",  # sparse matrices of who took what
    "av>=18,<19",  # frames and sound tracks of videos
    "mido>=1.3,<2",  # MIDI files
    # What horovod and petastorm import; both are installed without their own dependencies.
    "cloudpickle",
    "psutil",
    "pyyaml",
    "packaging",
    "cffi",
    "dill",
    "diskcache",
    "pyzmq",
    "six",
    "fsspec",
    "s3fs",  # s3:// locations
    "hdfs-native",  # hdfs:// locations, without a JVM
    "future",
]
EXPORT = ["faiss-cpu>=1.15,<2", "onnx>=1.23,<2", "onnxruntime>=1.31,<2"]
WITHOUT_DEPENDENCIES = ["petastorm==0.13.1", "horovod==0.28.1"]

here = Path(__file__).parent


class WithSettings(build_py):
    """A build that has the default settings inside the package, as the zip for a cluster has."""

    def run(self):
        super().run()
        target = Path(self.build_lib) / "crossweave" / "conf"
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(here / "conf" / "base.yaml", target / "base.yaml")


setup(
    name="crossweave",
    version="0.1.0",
    description="Nightly multimodal embeddings and recommendations on Spark",
    long_description=(here / "README.md").read_text(encoding="utf-8") if (here / "README.md").is_file() else "",
    long_description_content_type="text/markdown",
    python_requires=">=3.11,<3.12",
    cmdclass={"build_py": WithSettings},
    package_dir={"": "lib"},
    packages=find_packages("lib"),
    package_data={"crossweave": ["**/*.j2", "py.typed"]},
    install_requires=RUNTIME,
    extras_require={
        "test": ["pytest", "hypothesis", "moto[server]>=5.2,<6", "scikit-learn", "prometheus-client", *EXPORT],
        "dev": ["ruff", "mypy", "pre-commit", "pandas-stubs", "types-PyYAML"],
        "export": EXPORT,  # export.format faiss and onnx, score.ann
        "bench": [
            *EXPORT,
            "sentence-transformers>=6.2,<7",
            "librosa>=0.11,<0.12",
        ],  # what benchmarks compare with
        "gs": ["gcsfs"],  # gs:// locations
        "abfs": ["adlfs"],  # abfs:// locations
        "mlflow": ["mlflow-skinny>=3.17,<4"],  # tracking.mlflow
        "wandb": ["wandb>=0.31,<1"],  # tracking.wandb
        "pack": ["venv-pack==0.2.0"],
        "native": WITHOUT_DEPENDENCIES,
    },
)
