"""Amazon SQS: the only importer of the AWS client."""
