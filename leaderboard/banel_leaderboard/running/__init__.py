"""One run: an agent under the meter, measured at places on the grid."""
