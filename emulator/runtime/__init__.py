"""What the account is asked to run, runs: tasks, jobs and state machines as local processes, stages that forward."""
