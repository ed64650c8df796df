"""The corpus of bad inputs: what is broken, who reads it, what is said. `tests/pipeline/test_corpus.py` runs it.

Each module lists the cases of one kind of file. A case is broken in a place that is whole otherwise, see `places`.
"""
