"""What is trained, how: one LightningModule a task. A task never looks into the attention spec."""
