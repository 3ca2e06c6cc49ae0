"""`py_map_script`: runs one script over many argument lists, as one job.

tool      the body of the tool: its parameters, checked and completed by `resume`, and how it fills the result
journal   the plan and the results in the job's folder, which survive a crash and which `resume` reads
slots     the pool of slots: one process for each item that runs at the same time
slot      a program: runs items one after the other, each with a process tree of its own
"""
