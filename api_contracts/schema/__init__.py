"""The contract as documents: JSON Schemas and an AsyncAPI description, for every language."""
