mod drift;
mod summaries;
