"""Properties that hold for every sequence of calls, looked for by Hypothesis."""
