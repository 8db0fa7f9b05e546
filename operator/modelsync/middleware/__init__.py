"""What runs inside the model server. Standard library only: it is copied into foreign images."""
