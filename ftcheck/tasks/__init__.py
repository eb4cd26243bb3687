"""One module per task: columns, Auto class, tokenize, collate, decode, default metrics."""
