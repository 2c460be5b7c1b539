"""banel-leaderboard: run agents under the meter, keep records that can be checked, draw the board."""
