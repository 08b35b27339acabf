"""ant-host-agent: launches, supervises, logs and kills the projects of one host."""

__version__ = "0.1.0"

#: The member `schema` of every JSON object in the store, and of every line of a *.jsonl: the format of this version.
SCHEMA = 1
