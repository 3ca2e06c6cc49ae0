"""Runs one script in a child process. Knows no job records and no MCP.

    given variables, source ──> interpreter, packages ──> Command ──> child
                                └─ uv, in a phase of its own         └─> files, ChildExit

* `command`: the choice of an interpreter, and the command that is started.
* `child`: what the children of one call share; start of a child, wait for its end, kill of its tree, usage.
* `orphans`: the processes that a child leaves behind; they are reaped while it runs, and killed after it.
* `enforce`: sets the limits of a call when it starts, and checks its tree against them.
* `disk`: the disk space of one job.
* `memory_files`: memory in files that processes hold open.
* `inline`: code without a file of its own, run as if it lay in a directory.
* `output`: the output files of a child, bounded excerpts of them, their lines, a terminal's screen.
* `search`: readable text of a line, and the program that searches lines for a pattern.
* `pictures`: pictures that a script shows or saves; `matplotlib_backend` is the backend that shows them.
* `textfile`: text files that others wrote, with any line end, byte order mark or size.
* `python`: interpreters, environments and packages for a script.
"""
