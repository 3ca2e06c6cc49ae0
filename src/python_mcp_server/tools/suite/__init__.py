"""`py_run_tests`: runs the pytest suite of a directory and follows it test by test.

tool          the body of the tool: its parameters, the text that a model reads, the run, and what failed last
environment   the interpreter of the directory, with pytest and pytest-xdist brought in where asked for
plugin        a pytest plugin that writes an event for each step of the run to a file
events        reads these events while they come: progress, the stream of failures, the counts
report        from the counts to the result, or to the sentence that says why no test ran

`plugin` is copied into the folder of a call, and imports nothing of ours.
"""
