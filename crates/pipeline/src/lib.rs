//! The orchestrator of Brigade: models, partition, schedules, links, stages, training and checkpoints.
