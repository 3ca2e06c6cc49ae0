"""Chaos testing: servers, clients and library processes share one home and are killed at random instants.

`scripts/chaos` runs it; docs/reliability.md lists the promises that are checked.

- `experiment`: one run from the start of the servers to the last check.
- `environment`: options, files, variables and events of one run; `choices` are its seeded random choices.
- `stdio_server`, `supervisors`: a server with its client; who starts servers and programs again.
- `actor`, and on top of it `clients`, `targeted_cancel`, `suspend` and `shutdown`: what is done to servers.
- `random_kill`, `crash_point`: kills from outside, and a process that kills itself at a step of the store.
- `program`, `bodies`, `cancel_race`, `facts`: the library processes, and how they report what they learn.
- `queue_user`, `queue_bodies`, `queue_rules`: jobs that are queued with options, and queues that are paused;
  `notes` and `queue_promises` check them.
- `job_script`: the script that jobs run.
- `history`: what was reported and killed. `observer` and `monitor` read the records during the run.
- `drain`, `final_state`: ends the remaining jobs, then reads what is left.
- `expected`, `promises`: the expected end of a job; the checks. `report`: the printed figures.
- `process_table`: the processes of a run, found by a mark in their environment.
"""
