"""Carries out plans: writes children, cuts off held pods, reads exams from pods and adapters from the registry."""
