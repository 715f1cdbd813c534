"""One file a data set; every `load` gives `spatialvlm.example.Example` objects."""
