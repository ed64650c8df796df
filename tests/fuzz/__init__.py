"""`make fuzz`: hostile files for every reader, made from valid ones and at random, by the thousand a second."""
