"""{attention} x {seed} from one experiment file: planned, run as processes, measured and drawn."""
