"""How a training run is laid out on Kubeflow Pipelines; every step is a thin call of a stage."""
