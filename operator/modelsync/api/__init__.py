"""The resource: types, conditions, reasons, validation, CRD generator. Imports nothing of ours."""
