"""`py_benchmark_script`: measures a script over many runs, alone or in turns with another one.

tool          the body of the tool, and how it fills the result: figures, comparison, files of the job
plan          how often to run, which candidates run in each round, and when the figures are certain
measured_run  one measured run: the kernel's figures, and samples of memory and CPU over time
launcher      a program: starts the script in its own interpreter, and writes down the kernel's figures
sampler       a program: samples the memory and CPU time of the script's process tree
statistics    spread, intervals, outliers, one run over time, and the noise of the machine
plot          a program: draws the plot with matplotlib

The programs know nothing of the package and are run by path. Nothing here is imported outside of `tools`,
except by the server, which registers the tool, and by `scripts/bench`, which uses `statistics`.
"""
