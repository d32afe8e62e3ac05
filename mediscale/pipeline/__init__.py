"""The order of the stages, the one way into a stage, and the runners that call them.

A stage's timeout and resources stand in the value ``STAGE`` of the stage's own module.
"""
