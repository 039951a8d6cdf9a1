"""How good the recommendations are: metrics, intervals, slices and the report of a run.

numpy, matplotlib, Jinja2 and Pillow; never pyspark, never torch. Nothing is imported here, so that a job that
only needs `metrics` does not wait for matplotlib.

Shape legend of this room: U users, K list places, R relevant pairs, I items, M metrics, B resamples.
"""
