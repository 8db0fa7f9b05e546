"""Carries out a plan: writes children, cuts off held pods, asks pods for what only they know."""
