"""The life of a job: submit, wait, hand over, cancel, settle. The package knows no MCP.

manager      the interface on an event loop: run, submit, rejoin, and the methods of `async_jobs`
async_jobs   what the manager does with the jobs of its store: read, wait, answer, cancel, prune
blocking     the same for plain code in any thread
engine       one event loop's part of the manager: its runs, and how they end with the loop
bodies       how bodies are sent to workers, and which modules workers load ahead
services     shared by the parts of one engine: loop, pool, store threads, tasks, refreshing of records
run          one run of a job, as a state machine: queue, worker, hand-off, cancel, settle
state        the states of a run, drawn, with the transitions that are allowed
acquisition  a slot and a worker for a run, with the retries of a start that failed
status       the public facts of a run: progress, usage, questions
budget       the timers of a call: when its record is due, when its budget ends
home_bound   the bound of a home on its disk space, for jobs of schedules
limit_watch  the limits of a run and of a whole home, and the reasons to end a run
record       the durable record in the hands of its server or its worker; the one way to a terminal state
submission   the queued jobs that this process submitted, and the checks of new ones
sameness     submissions that get the job of an earlier one: by their key, or by equal arguments
home_files   small private files of the home, for the parts whose state belongs in no record
queue        which queued jobs start next, over all servers of a home
queue_rules  the rules of queues: paused, bounded, resources; they lie in the home
queues       the queues of a home: their counts, and changes of their rules
quota        what a client may spend in a window of time, as data
quotas       the quotas of a home: set, listed, removed
ledger       what each client has spent lately, in files of the home
spending     holds the jobs of clients to their quotas, and counts what they spend
rates        how often jobs of a kind or a client may start: their recent starts, in the home
capacity     what background jobs take, and whether another may start beside them
concurrency_keys  jobs that wait behind others of their key, and how they become ready
servers      whether a server of the home is up
slots        starts queued jobs of one engine, and gives them their slots
waits        how a caller waits for a job
waiting      why a queued job has not started, in a sentence
schedules    schedules as users make, list, change and remove them
schedule     one schedule as data, and which of its times start a job
timetable    the times of a schedule: cron, seconds, or once
firing       the files of schedules, and the round that creates the jobs whose time has come
chains       jobs that wait for other jobs
arguments    results of other jobs as arguments
asked        the types of what callers of the API give
comparing    one text for equal calls that no record has
graph        graphs of jobs, submitted as one
graph_jobs   waits for, and cancels, the jobs of a graph by its id
relatives    the jobs that belong to the graph or the chain of one
dead_letters jobs that failed for good and can be run again
spec         what a record needs so that any server can start its job
hooks        functions of a program that are called for the events of the home's jobs
health       what is not as it should be in a home, for `doctor`, `/healthz` and `py_health`
server_health the same, with what only a server knows of itself
stats        what the home's jobs have done in a window of time, from the journal
settle       the one way to a terminal state, or to the next attempt
redaction    what looks like a secret, and is left out of records
keeping      what a home keeps: the rounds that remove the oldest jobs above its bounds
expiry       when jobs with a time of their own are looked at
housekeeping runs the rounds of `keeping` for one engine
expired      which ids are those of jobs that were removed a short time ago
recovery     settling jobs whose processes are gone, on any read
cancel       ending a job by its record alone, from any process
questions    the questions of a job: in the record, to the caller, back to the body
inline       a worker's interface for async bodies that run on the server's own loop
request      the input and the output of the manager: requests, notices, results, jobs as dictionaries
rows         a job in words: what it runs, how it ended, its row of a list
reply        how a tool's call answers, as its record keeps it
output       pages and lines of a job's output
item_pages   pages of a job's items, by number, with filters
"""
