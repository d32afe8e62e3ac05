"""The order of the stages, the one way into a stage, and the runners that call them."""
