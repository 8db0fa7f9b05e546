"""What holds for every test."""

from hypothesis import HealthCheck, settings

# The machine that runs the tests may be busy with a cluster: how long an example takes says nothing about the code.
settings.register_profile("modelsync", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("modelsync")
