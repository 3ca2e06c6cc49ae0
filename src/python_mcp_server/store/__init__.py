"""Where jobs are kept: the contract of a store, stores that processes share, and one in memory.

contract      what every store promises, and the conditions of a prune; for users who bring their own store
opening       which store there is: by the setting, by a URL, by the locator that a worker gets
memory        the store of one process, for tests and for programs that keep nothing
files         the store in a directory: takes the lock of a job, and does one operation under it
folders       the base of stores with a directory of their own: the folders of jobs and workers
home          the base of stores whose locks lie beside their files
sqlite        the store in a database: a row for each job, and their files in a directory beside it
redis         the store on a Redis server: a package of its own
database      one SQLite database: its tables, its transactions, its errors as sentences
connections   the connections of one process to a database, none of which outlives a fork
encoding      a job as the bytes of its record and back, with a large result in a file of its own
records       the records of one home: read without a lock, counted, set aside where damaged
layout        where each file of a home lies, which ids may name one, and the walk in the order of time
counts        how many records there are, without a look at all of them
keys          what a queued job waits for, and its place in the order of starts
queue_index   the first jobs of each list of the queue, found without a look at the others
index         which jobs each principal has, so that its lists open no record of another
principals    the names of principals in records
events        which change of a record is a transition, and what its event tells
journal       the events of a home, one line each: appended, read, mended
locks         locks between processes that the kernel releases when their holder dies
maintenance   opens a home, imports the list of an older version, finishes what killed processes began, and
              completes the index of principals
moving        copies the jobs of one store to another
home_parts    copies what belongs to the jobs in a home: rules, keys, quotas, schedules
sweep         removes what killed processes left beside the records
listing       `meta/jobs.json`, the list for people, rewritten by a thread

`jobs` and users import `contract`, `opening`, `events`, `journal` and the stores; most other modules belong
to the file store. No module here knows processes or MCP, and all of them are light, because workers import
them.
"""
