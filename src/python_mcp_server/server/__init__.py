"""The MCP server: the only package, beside the command line, that imports the MCP SDK.

app         builds the server: all tools, what a model is told of them, the manager's lifetime
serve       runs it in this process, over stdio or HTTP, with its log; what `python-mcp-server serve` does
exit_guard  ends a server whose threads do not
log_limit   one line a minute for what is logged again and again
registry    makes a tool of a function: what a model reads of it, and that a bad call is refused
refusals    what a bad call is told
job_tools   the tools for jobs: watch, wait, read, list, cancel, prune, answer
schedule_tool the tool for what runs later
dead_letter_tool  the tool for jobs that failed for good: list, retry, drop
quota_tool  the tool by which a client sees its quota and what it has spent
job_view    what tools and resources show of a job, bounded
authors     the job tools on the server of another author
resources   jobs as resources, `job://...`, with notifications while they change
principals  who made the present request, and which jobs they may see
text        text that can be sent: valid Unicode, bounded
fastmcp     the same tools and tasks on a FastMCP server
sdk/        a decorated function as the SDK sees it, its calls, and their answers
tasks/      the Tasks extension: jobs as tasks
transports/ stdio and HTTP
"""
