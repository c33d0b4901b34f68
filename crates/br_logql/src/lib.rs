//! LogQL: parser, pipeline and metric evaluation over the storage seam.
