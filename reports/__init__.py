"""What is shown: experiments, runs, figures, tables, the paper and the page."""
