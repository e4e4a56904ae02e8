"""Members and how they are fused; checkpoints, pools of members, and equal but faster copies for the attacks."""
