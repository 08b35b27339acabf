"""The measurements: the built zipapp, driven as a user would, each number beside a bare reference of the same run."""
