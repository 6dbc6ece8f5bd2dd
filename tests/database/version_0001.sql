-- A row in each table of the first version of the database.
INSERT INTO language_models (id, name, source_kind, source, dtype, status, layers, created_at)
  VALUES ('lm_1', 'gpt', 'DIRECTORY', '/m', 'FLOAT32', 'UNLOADED', '[{"name": "h"}]', '2026-01-01 00:00:00.000000');
INSERT INTO jobs (id, kind, status, lane, artifact_id, result_id, request, request_hash, attempt, fraction, completed,
                  unit, last_sequence, revision, created_at, queued_at)
  VALUES ('job_1', 'TRAIN_SAE', 'SUCCEEDED', 'jobs', 'sae_1', 'sae_1', '{"seed": 0}', 'x', 2, 1.0, 10, 'STEPS', 6, 6,
          '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000');
INSERT INTO job_events (job_id, sequence, at, type, payload) VALUES
  ('job_1', 1, '2026-01-01 00:00:00.000000', 'STATUS', '{"status": "QUEUED", "error": null}'),
  ('job_1', 2, '2026-01-01 00:00:01.000000', 'STATUS', '{"status": "RUNNING", "error": null}'),
  ('job_1', 3, '2026-01-01 00:00:02.000000', 'STATUS', '{"status": "FAILED", "error": "No \u00fcse."}'),
  ('job_1', 4, '2026-01-01 00:00:03.000000', 'STATUS', '{"status": "QUEUED", "error": null}'),
  ('job_1', 5, '2026-01-01 00:00:04.000000', 'LOG', '{"message": "QUEUED"}'),
  ('job_1', 6, '2026-01-01 00:00:05.000000', 'STATUS', '{"status": "SUCCEEDED", "error": null}');
INSERT INTO activation_runs (id, name, status, language_model_id, job_id, dataset_kind, dataset_description, layers,
                             batch_size, max_length, dtype, sample_offset, sample_count, batch_count, token_count,
                             byte_size, created_at)
  VALUES ('run_1', 'run', 'READY', 'lm_1', NULL, 'INLINE', '3 texts', '[{"name": "h", "hidden_size": 8}]', 2, 16,
          'FLOAT32', 0, 3, 2, 9, 300, '2026-01-01 00:00:00.000000');
INSERT INTO saes (id, name, status, origin, sae_class, language_model_id, layer, input_size, latent_count, k,
                  activation_run_id, job_id, directory, created_at)
  VALUES ('sae_1', 'sae', 'READY', 'TRAINED', 'TopKSae', 'lm_1', 'h', 8, 32, 4, 'run_1', 'job_1', 'sae/lm_1/sae_1',
          '2026-01-01 00:00:00.000000');
INSERT INTO training_points (sae_id, step, epoch, token_count, loss, mse, explained_variance, l0, dead_fraction,
                             learning_rate, tokens_per_second)
  VALUES ('sae_1', 10, 1, 90, 0.5, 0.5, NULL, 4.0, NULL, 0.001, 99.0);
INSERT INTO neuron_indexes (id, sae_id, status, activation_run_id, top_texts_per_neuron, created_at)
  VALUES ('index_1', 'sae_1', 'READY', 'run_1', 10, '2026-01-01 00:00:00.000000');
INSERT INTO concepts (id, sae_id, neuron_index, name, source, version, created_at, updated_at)
  VALUES ('concept_1', 'sae_1', 3, 'dogs', 'MANUAL', 1, '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000');
INSERT INTO concept_configs (id, sae_id, name, edits, version, path, created_at, updated_at)
  VALUES ('config_1', 'sae_1', 'more dogs', '[]', 1, 'x', '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000');
