"""`recsys tune`: a search over the configuration of the stages, judged on validation users."""
