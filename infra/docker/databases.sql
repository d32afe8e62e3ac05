-- Beside MLflow's database, which POSTGRES_DB names.
CREATE DATABASE airflow;
