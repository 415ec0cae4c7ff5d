"""Training loops, one readable module per task, on one engine."""

TASKS = {
    "image": "experiments.tasks.image",
    "language": "experiments.tasks.language",
    "masked": "experiments.tasks.masked",
    "gan": "experiments.tasks.gan",
}
"""Task to the module of its command line: ``train_main`` and, if any, ``compare_main``.
"""
