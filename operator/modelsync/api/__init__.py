"""The resource: types, conditions, reasons, validation, CRD generator. Imports no other modelsync package."""
