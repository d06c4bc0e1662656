"""The Prefect server and its workers: started, stopped, installed on, watched."""
