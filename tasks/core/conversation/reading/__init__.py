"""Files of records, read in bounded memory: any format, any size, several files as one.

From bytes to records: `layout` recognises what a file is as a whole, `chunks` divides it,
`json_text` and `json_values` decode it, `dialects` translates a record into FastChat's format, and
`scan` yields the conversations. `parallel` does the same with several processes. `data_sources`
turns the sources of a recipe into `data_files`.
"""
