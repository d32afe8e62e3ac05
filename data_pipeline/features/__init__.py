"""Point-in-time features: the feature kernel, its windows, comorbidity indices, gold and the training set.

Which features a task has stands in its file, ``data_pipeline/cohort/tasks/<task>.yaml``.
"""
