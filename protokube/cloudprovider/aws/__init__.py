"""The AWS cloud: EC2 volumes and instance metadata."""

from protokube.cloudprovider.aws.provider import AwsCloud

__all__ = ["AwsCloud"]
