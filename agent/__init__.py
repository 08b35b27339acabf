"""ant-host-agent: launches, supervises, logs and kills the projects of one host."""

__version__ = "0.1.0"
