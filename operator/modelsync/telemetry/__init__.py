"""What the operator tells of itself in numbers. Imports only `api`; decides nothing, and nothing may depend on it."""
