"""Worker processes: how they get calls and return outcomes. The package knows no job states and no MCP.

pool          which call gets a worker now: spares, growth, shrinking, admission, back-off
backoff       how long it rests after workers that died at once, or could not be started
handle        one worker as the server holds it: start, dispatch, outcome, death, kill
process       the process behind a handle: a loky executor of one; how the program detaches from it
start         how loky starts it: session, signals, locks; `process` and this use privates of loky and others
protocol      the wires, the frames on them, and the note that a job has not begun
transport     the server's ends of the wires, read and written beside an event loop
references    the names of bodies: made by the server, resolved by the worker
main_module   the main file of a program, which its workers may load too
pickling      bodies and arguments as bytes, by name or by value
outcomes      results, exceptions and deaths, with their reasons, as bytes that can always be decoded
server_state  environment, path and directory of the server, for the bodies in workers
monitor       usage and limits of busy workers, checked in threads
steady        tasks that only their owner cancels, and calls in threads
worker        what runs inside a worker process
"""
