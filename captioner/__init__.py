"""Image captioning with attention that shows where it looked, word by word (Xu et al. 2015)."""
