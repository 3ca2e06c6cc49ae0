"""`py_run_tests`: runs the pytest suite of a directory and follows it test by test.

tool          the body of the tool: its parameters, the text that a model reads, and the run
environment   the interpreter of the directory, with pytest and pytest-xdist brought in where asked for
launch        a program: starts pytest in that interpreter as `python -m pytest` would
plugin        a pytest plugin that writes an event for each step of the run to a file
events        reads these events while they come: progress, the stream of failures, the counts
history       the failures of the last run in a directory, for `only_failed`
report        from the counts to the result, or to the sentence that says why no test ran

`launch` and `plugin` are copied into the folder of a call, and import nothing of ours.
"""
