"""`py_benchmark_script` and the command `bench`: measure programs over many runs, in turns.

tool          the body of the tool, and how it fills the result: figures, comparison, files of the job
contenders    the body of the command, for any number of scripts, modules and snippets of code
plan          how often to run, which candidates run in each round, and when the figures are certain
measured_run  one measured run: the kernel's figures, and samples of memory and CPU over time
launcher      a program: starts the script in its own interpreter, and writes down the kernel's figures
sampler       a program: samples the memory and CPU time of the script's process tree
snippet       a program: runs a snippet of code in a loop, as `timeit`
statistics    spread, intervals, outliers, one run over time, and the noise of the machine
ranking       which contender is the fastest, how much and how certain that is, in words
drawing       what the plot shows, and the process that draws it
plot          a program: draws the plot with matplotlib

The programs know nothing of the package and are run by path. Nothing here is imported outside of `tools`,
except by the server, which registers the tool, by the command line, and by `scripts/bench`, which uses
`statistics`.
"""
