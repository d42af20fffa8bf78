"""Export of released models to files that run without avssl: ONNX, and programs of torch.export.

- A :class:`~avssl.hub.export.towers.Tower` is one file: a network with its preprocessing, and its inputs and outputs.
- :mod:`avssl.hub.export.programs` writes it, reads it back and compares it with the model it was made of.
- :mod:`avssl.hub.export.description` says in a JSON file and a README what the files take and return.
"""
