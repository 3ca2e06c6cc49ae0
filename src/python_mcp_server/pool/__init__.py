"""Worker processes: how a call gets there, and its outcome back. Knows no job states, no MCP.

pool          who may have a worker now: spares, growth, shrinking, admission, back-off
handle        one worker as the server holds it: start, dispatch, outcome, death, kill
process       the process behind a handle: a loky executor of one; how the program parts with it
start         how loky starts it: session, signals, locks; `process` and this use privates of loky and others
protocol      the wires, the frames on them, and the note that a job has not begun
transport     the server's ends of the wires, read and written beside an event loop
references    how a body is named on one side and found on the other
main_module   the main file of a program, which its workers may load too
pickling      bodies and arguments as bytes, by name or by value
outcomes      results, exceptions and deaths as bytes that can always be read
server_state  environment, path and directory of the server, as a body is to see them
monitor       usage and limits of busy workers, looked at in threads of their own
steady        tasks that only their owner cancels, and calls in threads
worker        what runs inside a worker process
"""
