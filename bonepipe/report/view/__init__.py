"""The viewer: a local web application that shows images, true and predicted masks, and takes corrections."""
