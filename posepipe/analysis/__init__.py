"""Why a score is what it is: kinds of errors, what each costs, and whether two runs differ."""
