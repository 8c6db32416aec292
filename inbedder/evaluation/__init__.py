"""The tests of the paper: tasks and their data, how a model is asked, scores, averages, robustness."""
